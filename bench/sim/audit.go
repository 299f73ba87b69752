package sim

import "time"

const auditTick = time.Second

func (o *operator) auditRound() {
	o.node.timer(auditTick, o.auditRound)
}

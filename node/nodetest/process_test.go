package nodetest

import (
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// process is a node that runs as a process of its own, to be killed.
type process struct {
	*agent
	cmd  *exec.Cmd
	said io.Writer // gets the log, where it is wanted
	wrap func(*exec.Cmd)
}

// superProcess makes a super-node that is a process, and waits until it serves.
func (m *mesh) superProcess(name, domain string) *process {
	m.t.Helper()
	return m.superProcessSaying(name, domain, nil)
}

// superProcessSaying is superProcess, with its log going to said.
func (m *mesh) superProcessSaying(name, domain string, said io.Writer) *process {
	m.t.Helper()
	p := &process{agent: m.enrolled(name, domain), said: said}
	p.start()
	m.t.Cleanup(func() { p.kill() })
	p.serving()
	return p
}

func (p *process) start() {
	p.t.Helper()
	self := must[string](p.t)(os.Executable())
	p.cmd = exec.Command(self)
	p.cmd.Env = append(os.Environ(), envDir+"="+p.dir, envListen+"="+p.set.Listen, envSuper+"=1")
	p.cmd.Stderr = testLog{p.t, p.name}
	if p.said != nil {
		p.cmd.Env, p.cmd.Stderr = append(p.cmd.Env, "NODETEST_LOG=1"), p.said
	}
	if p.wrap != nil {
		p.wrap(p.cmd)
	}
	noError(p.t, p.cmd.Start())
	p.connect()
}

// kill is kill -9.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	p.cmd.Process.Signal(syscall.SIGKILL)
	p.cmd.Wait()
	p.cmd = nil
	p.api.Close()
}

// testLog hands what a process says to the test's log.
type testLog struct {
	t    testing.TB
	name string
}

func (l testLog) Write(b []byte) (int, error) {
	if len(b) > 0 && os.Getenv("NODETEST_LOG") != "" {
		l.t.Logf("%s: %s", l.name, b)
	}
	return len(b), nil
}

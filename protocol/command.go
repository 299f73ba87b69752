package protocol

import "strconv"

// Command says what a message asks or answers. Numbers are never reused: new ones are appended.
type Command byte

const (
	CmdPing                   Command = 1
	CmdPong                   Command = 2
	CmdGetNode                Command = 3
	CmdNode                   Command = 4
	CmdOpenSession            Command = 5
	CmdSessionOpened          Command = 6
	CmdGetOperatorNodes       Command = 7
	CmdOperatorNodes          Command = 8
	CmdGetSuperNodes          Command = 9
	CmdSuperNodes             Command = 10
	CmdSubmitSuperNode        Command = 11
	CmdSuperNodeSubmitted     Command = 12
	CmdGetNodeInfo            Command = 13
	CmdNodeInfo               Command = 14
	CmdGetTunnelNodes         Command = 15
	CmdTunnelNodes            Command = 16
	CmdGetEndDevices          Command = 17
	CmdEndDevices             Command = 18
	CmdGetRevocations         Command = 19
	CmdRevocations            Command = 20
	CmdPut                    Command = 21
	CmdStored                 Command = 22
	CmdTunnelRequest          Command = 23
	CmdTunnelOpened           Command = 24
	CmdForwardedTunnelRequest Command = 25
	CmdForwardedTunnelOpened  Command = 26
	CmdRelayJoin              Command = 27
	CmdDigest                 Command = 28
	CmdDigests                Command = 29
	CmdRepair                 Command = 30
	CmdRepaired               Command = 31
	CmdTransferPartition      Command = 32
	CmdPartitionTransferred   Command = 33
	CmdBusy                   Command = 34
	CmdWrongRange             Command = 35
	CmdProbeReach             Command = 36
	CmdReachProbed            Command = 37
	// CmdEnd is one past the last command.
	CmdEnd Command = 38
)

var commandNames = [CmdEnd]string{
	1: "Ping", "Pong", "GetNode", "Node", "OpenSession", "SessionOpened", "GetOperatorNodes", "OperatorNodes",
	"GetSuperNodes", "SuperNodes", "SubmitSuperNode", "SuperNodeSubmitted", "GetNodeInfo", "NodeInfo",
	"GetTunnelNodes", "TunnelNodes", "GetEndDevices", "EndDevices", "GetRevocations", "Revocations", "Put", "Stored",
	"TunnelRequest", "TunnelOpened", "ForwardedTunnelRequest", "ForwardedTunnelOpened", "RelayJoin", "Digest",
	"Digests", "Repair", "Repaired", "TransferPartition", "PartitionTransferred", "Busy", "WrongRange",
	"ProbeReach", "ReachProbed",
}

// String is the command's name in the requirements.
func (c Command) String() string {
	if c > 0 && c < CmdEnd {
		return commandNames[c]
	}
	return "command " + strconv.Itoa(int(c))
}

// Readable reports whether a signed message of this command carries its payload unsealed: only what two nodes need before
// they know each other's keys.
func (c Command) Readable() bool {
	switch c {
	case CmdGetNode, CmdNode, CmdOpenSession, CmdSessionOpened:
		return true
	}
	return false
}

package main

import (
	"time"

	"culvert/dht"
	"culvert/discovery/keeper"
	"culvert/discovery/nat"
	"culvert/node/config"
	"culvert/operator/care"
	"culvert/partition"
)

// What the code does, as far as its packages do not export it; TestRulesAreTheCodes reads each from the source again.
const (
	codeRefreshIdle    = 4 * time.Minute        // node: revocations and map are asked for after this and up to a quarter more
	codeRefreshBusy    = 5 * time.Second        // node: revocations, while it is an end of a tunnel
	codeActivePing     = 2 * time.Second        // node: homes, while it is an end of a tunnel
	codeSilentInterval = 5 * time.Minute        // node: homes of a node that need not be asked from outside
	codeWantHomes      = 2                      // node
	codeWatch          = 30 * time.Second       // operator: every super-node is probed and asked how it is
	codeSpyEvery       = 6 * time.Second        // care: every super-node is asked by a spy
	codeSpyRate        = 100                    // care: so many in a second at most
	codeHandOverTick   = 250 * time.Millisecond // operator: who fills a range is asked how far it is, then ever more seldom
	codeNodeLife       = 30 * 24 * time.Hour
	codeReadQuorum     = 2                      // dht: K
	codeWriteQuorum    = 2                      // dht: W
	codeFirstRetry     = 250 * time.Millisecond // endpoint: then twice that, and so on
	codeMostRelays     = 3                      // tunnel: relays tried for one node
	codeReplicas       = partition.Replicas
	codeMissLimit      = care.MissLimit
)

// What its packages do export.
var (
	codeAnnounce  = config.Default().AnnounceInterval.D()
	codeExpiry    = config.Default().RecordExpiry.D()
	codeTimeout   = dht.DefaultTimeout
	codeAskLife   = 4 * dht.DefaultTimeout // dht: lateFactor wave time-outs
	codeRepair    = dht.RepairInterval
	codeKeepalive = nat.DefaultKeepalive
	codeKeepers   = keeper.Keepers
)

// assumptions are what no code decides. They are written into every result.
type assumptions struct {
	NodesPerVolunteer int     `json:"nodes_per_volunteer"` // the issue: 1 node in 50
	Connections       int     `json:"connections"`         // the issue: of a volunteer
	DomainShape       float64 `json:"domain_shape"`        // Pareto: 80 % of the nodes are in the largest 20 % of the domains
	DomainSmallest    float64 `json:"domain_smallest"`     // nodes
	DomainMost        float64 `json:"domain_most"`         // the largest domain's share of all nodes
	NodesPerPlace     int     `json:"nodes_per_place"`     // nodes of one location, of which two keep bindings
	DevicesPerNode    float64 `json:"devices_per_node"`

	SuperSession Hours   `json:"super_session_h"` // mean time that a volunteer stays, exponential
	SuperAbsence Hours   `json:"super_absence_h"` // and is away; most come back
	SuperCrash   float64 `json:"super_crash"`     // share that leaves without a word
	NodeSession  Hours   `json:"node_session_h"`  // mean time that a node runs
	NodeCrash    float64 `json:"node_crash"`      // share of nodes that stop without withdrawing their NodeInfo

	Lookups       float64 `json:"lookups_a_day"` // of one node
	LookupAbsent  float64 `json:"lookup_absent"` // share of lookups after what does not exist
	LookupMix     mix     `json:"lookup_mix"`
	Loss          float64 `json:"loss"`           // of datagrams, each way
	DeviceChanges float64 `json:"device_changes"` // a device and day
	Enrolments    float64 `json:"enrolments"`     // share of the nodes that are new each day
	Revocations   float64 `json:"revocations"`    // share of the nodes that are revoked each day
	Tunnels       float64 `json:"tunnels_a_day"`  // of one node, opened to another place
	TunnelMinutes float64 `json:"tunnel_minutes"` // that a tunnel lasts, mean
	Relayed       float64 `json:"relayed_share"`  // of them, that no better route carries
	NoUDP         float64 `json:"no_udp_share"`   // of the nodes: their messages go by streams
}

// mix is how lookups divide.
type mix struct {
	NodeInfo float64 `json:"node_info"`
	Place    float64 `json:"tunnel_nodes"`
	Device   float64 `json:"end_device"`
}

// Hours is a length of time in the results.
type Hours float64

func (h Hours) seconds() float64 { return float64(h) * 3600 }

// usual is what the results are made with, unless a plot says otherwise.
func usual() assumptions {
	return assumptions{
		NodesPerVolunteer: 50, Connections: 75, DomainShape: 1.16, DomainSmallest: 8, DomainMost: 0.05, NodesPerPlace: 10, DevicesPerNode: 0.5,
		SuperSession: 8, SuperAbsence: 16, SuperCrash: 1, NodeSession: 9, NodeCrash: 0.2,
		Lookups: 1000, LookupAbsent: 0.1, LookupMix: mix{NodeInfo: 0.4, Place: 0.4, Device: 0.2}, Loss: 0.01,
		DeviceChanges: 0.02, Enrolments: 0.001, Revocations: 0.0001, Tunnels: 20, TunnelMinutes: 5, Relayed: 0.2, NoUDP: 0.03,
	}
}

// Package localapi is the HTTP API by which apps on this machine use their agent: over a Unix socket, on Windows a named
// pipe, and on request over loopback TCP. openapi.yaml in this folder describes it; the Go client comes from that file.
//
// What the agent does is behind [Backend]. This package reads requests strictly, knows the caller, and answers in JSON:
//
//	GET    /v1/status                     Status
//	GET    /v1/version                    Version
//	GET    /v1/location                   []Location, the default route's first
//	GET    /v1/devices?domain=&refresh=   []Device
//	GET    /v1/tunnels                    []Tunnel, each with who opened it and its Receipt
//	POST   /v1/tunnels                    OpenRequest → 201 Tunnel
//	DELETE /v1/tunnels/{id}               204
//	GET    /v1/served                     []Served, the other end: what this node carries for others
//	GET    /v1/netcheck                   Netcheck, measured anew; up to 5 s
//	GET    /v1/counters                   what was dropped, refused, stored and relayed, by part and reason
//	POST   /v1/join                       JoinRequest → 201 Membership
//	POST   /v1/leave                      LeaveRequest → 204
//	GET    /v1/events                     server-sent events, one Event each
//
// A port is "631", or "161/udp" for datagrams: each one sent to a tunnel's local address is one at the device, and answers come
// back to the local address that sent. A [Receipt] says why a tunnel goes by its route: each attempt of the latest race, when
// it began, how long it took, and why it was not taken. [Status] says by what messages travel now and whether this agent
// keeps itself reachable at its location; [Netcheck] what stands between this machine and the internet, what to expect of
// each route, and what would make it better.
//
// An error is {"error","code","hint"}; its [Code] is what programs go by, its status follows from the code ([Code.Status]).
//
// Who calls is told by the operating system (peer credentials) and is in the request's context, see [CallerFrom]. The
// loopback listener knows no peer, so it asks for a token, compared in constant time, and answers 403 to every Host that
// is not its own and every Origin that is not the same, so that no web page can reach it by DNS rebinding or otherwise.
//
// Bounds: 256 connections, 16 KiB of headers in 5 s, 16 KiB of body in 10 s, 90 s for an answer, 64 listeners to events with 256
// waiting events each; past that the oldest are dropped and a "dropped" event says how many.
package localapi

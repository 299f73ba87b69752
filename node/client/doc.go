// Package client lets a program use the culvert agent of its machine: find devices, and reach their ports through tunnels as
// if they stood beside it.
//
//	c, err := client.Dial(ctx, "")
//	if errors.Is(err, client.ErrNoDaemon) {
//		// the agent does not run here
//	}
//	defer c.Close()
//	conn, err := c.DialDevice(ctx, "printer-2@acme", "9100")
//
// [Client.DialDevice] gives a connection to a device's port; [Client.Open] gives a local address for software that wants
// to connect by itself. A port such as "161/udp" carries datagrams: the connection has a
// *net.UDPConn inside, and each Write is one of them.
//
// [Tunnel].Receipt says what was tried for a tunnel and why it goes by its route, [Client.Served] the same of the other end, and
// [Client.Netcheck] what stands between this machine and the internet and what to expect of each route.
//
// What the agent refuses comes back as an [*Error], to be compared by errors.Is with [ErrNotEnrolled],
// [ErrNotFound] and the others here.
//
// The types and the HTTP requests are generated from the agent's OpenAPI description, see package api below this one; this
// package adds the connection to the socket or pipe, errors and events. A Client may be used by many goroutines.
package client

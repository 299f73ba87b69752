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
// to connect by itself. What the agent refuses comes back as an [*Error], to be compared by errors.Is with [ErrNotEnrolled],
// [ErrNotFound] and the others here.
//
// The types and the HTTP requests are generated from the agent's OpenAPI description, see package api below this one; this
// package adds the connection to the socket or pipe, errors and events. A Client may be used by many goroutines.
package client

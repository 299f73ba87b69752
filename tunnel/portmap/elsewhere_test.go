package portmap

import "net"

// listenElsewhere listens at a loopback address that is not the fake router's, where the system has one.
func listenElsewhere() (net.Listener, error) { return net.Listen("tcp", "127.0.0.2:0") }

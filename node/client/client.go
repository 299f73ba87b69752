package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"culvert/node/client/api"
	"culvert/node/config"
	"culvert/node/localapi/ipc"
)

// What the agent answers, as its OpenAPI description has it.
type (
	Version     = api.Version
	Status      = api.Status
	Messages    = api.Messages
	Membership  = api.Membership
	SuperNode   = api.SuperNode
	Location    = api.Location
	Device      = api.Device
	Tunnel      = api.Tunnel
	Receipt     = api.Receipt
	Attempt     = api.Attempt
	Served      = api.Served
	Caller      = api.Caller
	OpenRequest = api.OpenRequest
	Netcheck    = api.Netcheck
	PortMapping = api.PortMapping
	OpenFiles   = api.OpenFiles
)

// dialTime bounds the connection to a socket on this machine.
const dialTime = 5 * time.Second

// Client talks to one agent. Make it with [Dial], [New] or [NewLoopback].
type Client struct {
	api       *api.Client
	transport *http.Transport
}

// Dial connects to the agent with this data directory and makes sure that it answers. Where dataDir is empty it is CULVERT_DATA,
// else this user's own agent if it runs, else the one that runs as a service of this machine.
func Dial(ctx context.Context, dataDir string) (*Client, error) {
	dir, err := config.DataDir(dataDir, os.Getenv)
	if err != nil {
		return nil, err
	}
	address := ipc.Address(dir)
	err = probe(ctx, address)
	if system := ipc.Address(config.SystemDataDir()); dataDir == "" && os.Getenv("CULVERT_DATA") == "" &&
		errors.Is(err, ErrNoDaemon) && system != address {
		// The user's own error is the better one, unless there is a service that does not let this user in.
		switch serviceErr := probe(ctx, system); {
		case serviceErr == nil:
			address, err = system, nil
		case errors.Is(serviceErr, ErrDenied):
			err = serviceErr
		}
	}
	if err != nil {
		return nil, err
	}
	return New(address), nil
}

func probe(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	conn, err := ipc.Dial(ctx, address)
	if errors.Is(err, ErrNoDaemon) {
		return fmt.Errorf("%w: start it with culvert run", err)
	}
	if err != nil {
		return err
	}
	return conn.Close()
}

// New makes a client of the agent that listens at a socket, on Windows a named pipe. It does not connect yet.
func New(socket string) *Client {
	return newClient("http://culvert", func(ctx context.Context, _, _ string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTime)
		defer cancel()
		return ipc.Dial(ctx, socket)
	})
}

// NewLoopback makes a client of the agent that listens at a loopback address, for programs that cannot use the socket. The
// token is the content of api.token in the agent's data directory.
func NewLoopback(address, token string) *Client {
	var d net.Dialer
	c := newClient("http://"+address, d.DialContext)
	c.api.RequestEditors = append(c.api.RequestEditors, func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+token)
		return nil
	})
	return c
}

func newClient(server string, dial func(context.Context, string, string) (net.Conn, error)) *Client {
	t := &http.Transport{DialContext: dial, MaxIdleConns: 4, IdleConnTimeout: time.Minute}
	return &Client{
		transport: t,
		api: &api.Client{
			Server: server + "/",
			// The agent redirects nowhere; following would send the token elsewhere.
			Client: &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		},
	}
}

// Close lets go of idle connections. Requests in flight and tunnels go on.
func (c *Client) Close() error {
	c.transport.CloseIdleConnections()
	return nil
}

// Version says what is running.
func (c *Client) Version(ctx context.Context) (Version, error) {
	return result[Version](c.api.GetVersion(ctx))
}

// Status tells of the agent at a glance.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return result[Status](c.api.GetStatus(ctx))
}

// Netcheck measures what stands between the agent's machine and the internet, and says what would make it better. It takes up
// to five seconds.
func (c *Client) Netcheck(ctx context.Context) (Netcheck, error) {
	return result[Netcheck](c.api.Netcheck(ctx))
}

// Locations lists the networks that this machine is in, the default route's first.
func (c *Client) Locations(ctx context.Context) ([]Location, error) {
	return result[[]Location](c.api.ListLocations(ctx))
}

// DeviceQuery says which devices are asked for.
type DeviceQuery struct {
	Domain  string // name, empty for all
	Refresh bool   // ask super-nodes instead of answering from what the agent remembers
}

// Devices lists registered devices; the zero query asks for all.
func (c *Client) Devices(ctx context.Context, q DeviceQuery) ([]Device, error) {
	return result[[]Device](c.api.ListDevices(ctx, &api.ListDevicesParams{Domain: q.Domain, Refresh: q.Refresh}))
}

// Tunnels lists the tunnels that were opened through this agent, by whatever program.
func (c *Client) Tunnels(ctx context.Context) ([]Tunnel, error) {
	return result[[]Tunnel](c.api.ListTunnels(ctx))
}

// Served lists what this agent carries, or carried lately, for other nodes as tunnel-node.
func (c *Client) Served(ctx context.Context) ([]Served, error) {
	return result[[]Served](c.api.ListServed(ctx))
}

// Open opens a tunnel and returns when the device has answered. Connect to the tunnel's Local address, as often as you
// like, and close it with CloseTunnel.
func (c *Client) Open(ctx context.Context, r OpenRequest) (Tunnel, error) {
	return result[Tunnel](c.api.OpenTunnel(ctx, r))
}

// CloseTunnel ends a tunnel, its connections and its persistence.
func (c *Client) CloseTunnel(ctx context.Context, id string) error {
	return done(c.api.CloseTunnel(ctx, id))
}

// Join enrols this node in the domain of the token. An empty name is the host's.
func (c *Client) Join(ctx context.Context, token, name string) (Membership, error) {
	return result[Membership](c.api.Join(ctx, api.JoinRequest{Token: token, Name: name}))
}

// Leave ends the membership in a domain; where there is only one, its name may be empty.
func (c *Client) Leave(ctx context.Context, domain string) error {
	return done(c.api.Leave(ctx, api.LeaveRequest{Domain: domain}))
}

// Package config is everything a person may set on a node: one typed struct, read strictly.
//
// A value comes from the first of these places that names it: a command-line flag, an environment variable, the file
// config.toml in the data directory, the default. The file is TOML; a setting that is not known, a value that cannot be
// right and a key written twice are errors that name file, line and remedy, and nothing starts with half a configuration.
//
// [Example] returns the file with every setting, its unit and its default; a test holds it equal to [Default]. The same
// settings are environment variables: CULVERT_ and the name in capitals, table and name joined by an underscore, lists
// separated by commas (CULVERT_LISTEN, CULVERT_ROUTES=lan,direct, CULVERT_LIMITS_CONNECTIONS=4096, CULVERT_LOG_LEVEL).
// CULVERT_DATA names the data directory itself, see [DataDir]. Other CULVERT_ variables are left to whoever set them.
// Only the consent list can be given in no other way than the file: it is a permission, and permissions are written down.
//
//	setting                        unit       default           meaning
//	listen                         address    :7700             UDP and TCP; any free port if 7700 is taken and nobody asked for it
//	super                          bool       false             offer this node as a super-node, whatever stands between
//	volunteer                      bool       true              … by itself, where it is reachable from the internet (--no-volunteer)
//	volunteer_after                duration   5m                for how long it must have been so
//	tunnel                         bool       true              serve end-devices of this LAN to other nodes (--no-tunnel)
//	routes                         names      all of them       lan,direct,mapped,punched,relayed: those that may be used, best first
//	portmap                        bool       true              ask this LAN's router to open the port, by UPnP, NAT-PMP and PCP; false: no
//	                                                            mapped route to this node, unless somebody forwards the port by hand
//	sessions                       bool       true              talk in sessions; false signs every message
//	advertise                      addresses  none              HOST[:PORT] under which the internet reaches a super-node
//	keepalive                      duration   0s                how often a NAT's binding is refreshed, 0s as found by probing
//	announce_interval              duration   5m                how often NodeInfo is announced
//	record_expiry                  duration   10m               when an announced NodeInfo expires
//	api                            address    none              loopback address for the local API, with the token in api.token
//	socks                          address    none              loopback address of the SOCKS5 server for names of devices (--socks)
//	socks_user                     text       none              what its clients must know; both or none, at most 255 bytes each
//	socks_password                 text       none              … for machines that several people share
//	proxy                          URL        none              HTTP proxy, http://USER:PASSWORD@HOST:PORT; none: the environment's
//	listen_https                   address    auto              where a super-node is reached at port 443, for networks that let HTTPS out
//	listen_http                    address    auto              the same for port 80 and HTTP; off: not there
//	relay                          bool       false             operators: relay tunnels where no super-node can (--relay)
//	audit_bind                     addresses  none              operators: this machine's addresses from which super-nodes are audited
//	log.level                      name       info              debug, info, warn, error
//	log.format                     name       text              text, json
//	limits.tunnels                 count      20000             open tunnels on this node
//	limits.tunnels_per_node        count      1000              … of one other node
//	limits.tunnels_per_domain      count      10000             … of one domain
//	limits.connections             count      8192              TCP connections; never more than 80% of the descriptors
//	limits.relay_bytes_per_node    bytes/day  256GiB            relayed for one node (super-nodes); 0: no limit
//	limits.relay_bytes_per_domain  bytes/day  4TiB              relayed for one domain; 0: no limit
//	limits.relay_rate              bytes/s    0                 relayed in all, the upload cap; 0: no limit
//	limits.relay_rate_per_node     bytes/s    0                 relayed for one node; 0: no limit
//	limits.relay_rate_per_domain   bytes/s    0                 relayed for one domain; 0: no limit
//	timeouts.open                  duration   30s               an open in all: lookup, every route, the device's answer
//	timeouts.handshake             duration   10s               a link's handshake, a relay's join
//	timeouts.device                duration   10s               an end-device's answer
//	timeouts.idle_connection       duration   1h                a tunnelled connection without a byte
//	timeouts.idle_link             duration   10m               a link without a tunnelled connection
//	timeouts.shutdown              duration   5s                a graceful stop
//	consent                        table      none              TUN-11: device × ports × groups that this agent agrees to
package config

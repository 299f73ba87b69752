package main

import (
	"fmt"
	"strings"

	"culvert/operator"

	"github.com/spf13/cobra"
)

// deviceFlags are the flags of device add and update.
type deviceFlags struct {
	mac, address, node, at, tlsKey string
	ports, locations, allow        []string
}

func (f *deviceFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.mac, "mac", "", "`MAC` address, for a device on the workstations' own network")
	cmd.Flags().StringVar(&f.address, "address", "", "fixed `IP` address, for a device on another subnet")
	cmd.Flags().StringVar(&f.node, "node", "", "`ID` of the node on whose own machine the device runs")
	cmd.Flags().StringSliceVar(&f.ports, "port", nil, "`ports` that may be opened: 631, 161/udp; 9100=staff+it for those groups only")
	cmd.Flags().StringSliceVar(&f.locations, "location", nil, "location `IDs` as `culvert location` prints them beside the device")
	cmd.Flags().StringVar(&f.at, "at", "", "the `node` beside the device: its announced locations are taken")
	cmd.Flags().StringVar(&f.tlsKey, "tls-key", "", "SHA-256 of the device's TLS key, in `hex`: the device is pinned to it")
	cmd.Flags().StringSliceVar(&f.allow, "allow", nil, "`groups` of nodes that may open it; without it every node of the domain")
}

func newOperatorDeviceCmd() *cobra.Command {
	return group("device", "End-devices: printers, cameras and the like",
		newDeviceAddCmd(), newDeviceUpdateCmd(), newDeviceImportCmd(), newDeviceListCmd(), newDeviceRemoveCmd(), newDevicePushCmd())
}

func newDeviceAddCmd() *cobra.Command {
	var f deviceFlags
	var domain string
	cmd := &cobra.Command{
		Use:   "add NAME --domain NAME (--mac MAC | --address IP | --node ID) --port N[/udp],… (--location ID,… | --at NODE)",
		Short: "Register a device", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if domain == "" || len(f.ports) == 0 {
				return usagef("--domain NAME and --port N are needed")
			}
			if n := count(f.mac != "", f.address != "", f.node != ""); n != 1 {
				return usagef("give one of --mac, --address and --node; %d are given", n)
			}
			if f.at != "" && len(f.locations) > 0 || f.at == "" && len(f.locations) == 0 && f.node == "" {
				return usagef("give --location ID (from `culvert location` beside the device) or --at NODE")
			}
			spec := operator.DeviceSpec{Name: args[0], Domain: domain, MAC: f.mac, Address: f.address, Node: f.node, Ports: f.ports,
				Locations: f.locations, At: f.at, TLSKey: f.tlsKey, Allow: f.allow}
			return withAdmin(cmd, func(a *adminClient) error {
				var d operator.DeviceView
				if err := a.post("/devices", spec, &d); err != nil {
					return err
				}
				if d.Address != "" && d.TLSKey == "" {
					note(cmd, "Without --tls-key an agent reaches %s only if its own consent list names the device and port.", d.Address)
				}
				return showDevices(cmd, d, []operator.DeviceView{d})
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&domain, "domain", "", "`name` of the domain")
	return cmd
}

func newDeviceUpdateCmd() *cobra.Command {
	var f deviceFlags
	var domain, rename string
	cmd := &cobra.Command{
		Use: "update NAME --domain NAME …", Short: "Change a device; what is not named stays", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := deviceRef(args[0], domain)
			if err != nil {
				return err
			}
			var p operator.DevicePatch
			for name, set := range map[string]func(){
				"name": func() { p.Name = &rename }, "mac": func() { p.MAC = &f.mac }, "address": func() { p.Address = &f.address },
				"node": func() { p.Node = &f.node }, "at": func() { p.At = &f.at }, "tls-key": func() { p.TLSKey = &f.tlsKey },
				"port": func() { p.Ports = &f.ports }, "location": func() { p.Locations = &f.locations }, "allow": func() { p.Allow = &f.allow },
			} {
				if cmd.Flags().Changed(name) {
					set()
				}
			}
			if p == (operator.DevicePatch{}) {
				return usagef("nothing to change is named")
			}
			return withAdmin(cmd, func(a *adminClient) error {
				var d operator.DeviceView
				if err := a.patch("/devices/"+segment(ref), p, &d); err != nil {
					return err
				}
				return showDevices(cmd, d, []operator.DeviceView{d})
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&domain, "domain", "", "`name` of the domain")
	cmd.Flags().StringVar(&rename, "name", "", "new `name`")
	return cmd
}

func newDeviceImportCmd() *cobra.Command {
	var domain string
	cmd := &cobra.Command{
		Use: "import FILE.csv", Short: "Register all devices of a file, or none", Args: cobra.ExactArgs(1),
		Long: "The file's first line names its columns, out of: name, domain, mac, address, node, ports, locations, at, tls_key,\n" +
			"allow. Lists within a cell are separated by spaces or semicolons. - reads standard input.",
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := openFile(cmd, args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			specs, lines, err := operator.ParseCSV(f, domain)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return withAdmin(cmd, func(a *adminClient) error {
				var list struct{ Items []operator.DeviceView }
				if err := a.post("/devices:bulk", map[string]any{"devices": specs}, &list); err != nil {
					return operator.Renumber(err, lines)
				}
				note(cmd, "%d devices registered.", len(list.Items))
				return showDevices(cmd, list.Items, list.Items)
			})
		},
	}
	cmd.Flags().StringVar(&domain, "domain", "", "`name` of the domain for rows that name none")
	return cmd
}

func newDeviceListCmd() *cobra.Command {
	var domain string
	cmd := &cobra.Command{Use: "list", Short: "List devices", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return withAdmin(cmd, func(a *adminClient) error {
			ds, err := listAll[operator.DeviceView](a, "/devices", domain)
			if err != nil {
				return err
			}
			return showDevices(cmd, ds, ds)
		})
	}}
	cmd.Flags().StringVar(&domain, "domain", "", "only this domain's")
	return cmd
}

func newDeviceRemoveCmd() *cobra.Command {
	var domain string
	cmd := &cobra.Command{Use: "remove NAME --domain NAME", Short: "End a registration", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		ref, err := deviceRef(args[0], domain)
		if err != nil {
			return err
		}
		return withAdmin(cmd, func(a *adminClient) error {
			return a.finish(cmd, a.delete("/devices/"+segment(ref)))
		})
	}}
	cmd.Flags().StringVar(&domain, "domain", "", "`name` of the domain")
	return cmd
}

func newDevicePushCmd() *cobra.Command {
	var domain string
	cmd := &cobra.Command{Use: "push", Short: "Send the device records to the super-nodes again", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return withAdmin(cmd, func(a *adminClient) error {
			var p operator.Pushed
			if err := a.post("/devices:push", map[string]any{"domain": domain}, &p); err != nil {
				return err
			}
			if wantJSON(cmd) {
				return printJSON(cmd.OutOrStdout(), p)
			}
			if p.Note != "" {
				note(cmd, "Note: %s.", p.Note)
			}
			return table(cmd.OutOrStdout(), [][]string{{"RECORDS", "WAITING"}, {fmt.Sprint(p.Records), fmt.Sprint(p.Waiting)}})
		})
	}}
	cmd.Flags().StringVar(&domain, "domain", "", "only this domain's")
	return cmd
}

// deviceRef is how the API names a device: by its ID, or NAME@DOMAIN.
func deviceRef(name, domain string) (string, error) {
	if domain != "" {
		return name + "@" + domain, nil
	}
	if strings.Contains(name, "@") || len(name) == 8+1+64 {
		return name, nil
	}
	return "", usagef("--domain NAME is missing (or write NAME@DOMAIN, or the device's ID)")
}

func count(conditions ...bool) (n int) {
	for _, c := range conditions {
		if c {
			n++
		}
	}
	return n
}

func showDevices(cmd *cobra.Command, v any, ds []operator.DeviceView) error {
	if wantJSON(cmd) {
		return printJSON(cmd.OutOrStdout(), v)
	}
	var rows [][]string
	for _, d := range ds {
		target := d.MAC + d.Address // one of them
		if d.Node != "" {
			target = "node " + short(d.Node)
		}
		places := make([]string, len(d.Locations))
		for i, l := range d.Locations {
			places[i] = short(l)
		}
		rows = append(rows, []string{d.Name, d.Domain, target, strings.Join(d.Ports, ","), strings.Join(places, ","), strings.Join(d.Allow, ","), d.ID.String()})
	}
	return table(cmd.OutOrStdout(), append([][]string{[]string{"NAME", "DOMAIN", "TARGET", "PORTS", "LOCATIONS", "ALLOW", "ID"}}, rows...))
}

// short is for people's eyes only.
func short(s string) string { return s[:min(len(s), 17)] }

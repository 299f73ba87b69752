package discovery

import (
	"fmt"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

func (kernel) routes() ([]nextHop, error) {
	var table *windows.MibIpForwardTable2
	if err := windows.GetIpForwardTable2(windows.AF_UNSPEC, &table); err != nil {
		return nil, fmt.Errorf("read routes: %w", err)
	}
	defer windows.FreeMibTable(unsafe.Pointer(table))
	var out []nextHop
	for _, row := range table.Rows() {
		dst, ok := ipOf(&row.DestinationPrefix.Prefix)
		via, okVia := ipOf(&row.NextHop)
		if !ok || !okVia || via.IsUnspecified() || row.Loopback != 0 ||
			!defaultLike(netip.PrefixFrom(dst, int(row.DestinationPrefix.PrefixLength))) {
			continue
		}
		out = append(out, nextHop{Index: int(row.InterfaceIndex), Via: via, V6: dst.Is6(),
			Metric: row.Metric + interfaceMetric(row.InterfaceIndex, dst.Is6())})
	}
	return out, nil
}

// interfaceMetric is added to each route's: Windows compares the sums.
func interfaceMetric(index uint32, v6 bool) uint32 {
	row := windows.MibIpInterfaceRow{Family: windows.AF_INET, InterfaceIndex: index}
	if v6 {
		row.Family = windows.AF_INET6
	}
	if windows.GetIpInterfaceEntry(&row) != nil {
		return 0 // it went away since the table was read
	}
	return row.Metric
}

// netRow is MIB_IPNET_ROW2 and netTable MIB_IPNET_TABLE2 of netioapi.h, which x/sys does not have.
type netRow struct {
	Address       windows.RawSockaddrInet
	Index         uint32
	LUID          uint64
	Physical      [32]byte
	PhysicalLen   uint32
	State         uint32
	Flags         uint8
	ReachableTime uint32
}

type netTable struct {
	N    uint32
	_    uint32 // rows are aligned to 8 bytes, on 32-bit systems too
	Rows [1]netRow
}

var _ [88]byte = [unsafe.Sizeof(netRow{})]byte{}

// NL_NEIGHBOR_STATE
const (
	stateProbe     = 2
	stateReachable = 5
	statePermanent = 6
)

func (kernel) neighbours() ([]entry, error) {
	proc := windows.NewLazySystemDLL("iphlpapi.dll").NewProc("GetIpNetTable2")
	if err := proc.Find(); err != nil {
		return nil, fmt.Errorf("read neighbours: %w", err)
	}
	var table *netTable
	if code, _, _ := proc.Call(uintptr(windows.AF_UNSPEC), uintptr(unsafe.Pointer(&table))); code != 0 {
		if syscall.Errno(code) == windows.ERROR_NOT_FOUND {
			return nil, nil // an empty table
		}
		return nil, fmt.Errorf("read neighbours: %w", syscall.Errno(code))
	}
	defer windows.FreeMibTable(unsafe.Pointer(table))
	var out []entry
	rows := unsafe.Slice(&table.Rows[0], table.N)
	for k := range rows {
		row := &rows[k]
		addr, ok := ipOf(&row.Address)
		if !ok || row.State < stateProbe || row.PhysicalLen != uint32(len(MAC{})) {
			continue // unreachable or incomplete
		}
		e := entry{Index: int(row.Index), Addr: addr, MAC: MAC(row.Physical[:6]), Fresh: row.State == stateReachable || row.State == statePermanent}
		if e.MAC.IsUnicast() {
			out = append(out, e)
		}
	}
	return out, nil
}

func ipOf(sa *windows.RawSockaddrInet) (netip.Addr, bool) {
	switch sa.Family {
	case windows.AF_INET:
		return netip.AddrFrom4((*windows.RawSockaddrInet4)(unsafe.Pointer(sa)).Addr), true
	case windows.AF_INET6:
		return netip.AddrFrom16((*windows.RawSockaddrInet6)(unsafe.Pointer(sa)).Addr), true
	}
	return netip.Addr{}, false
}

// Package device puts real devices on a lab's hosts: the CUPS project's
// ippeveprinter, an IPP Everywhere printer, with ipptool, its conformance
// client; and JetDirect ports (raw TCP, usually 9100) that say what they were
// sent.
package device

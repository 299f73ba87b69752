// Package device puts real devices on a lab's hosts: the CUPS project's
// ippeveprinter, an IPP Everywhere printer, with ipptool, its conformance
// client; net-snmp's agent, with its client (UDP 161); a camera by GStreamer's
// RTSP server, with ffmpeg as its player (TCP 554, RTP interleaved); and
// JetDirect ports (raw TCP, usually 9100) that say what they were sent.
//
// Debian's packages: cups-ipp-utils ghostscript dbus-daemon snmp snmpd ffmpeg
// python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base
// gstreamer1.0-plugins-good.
package device

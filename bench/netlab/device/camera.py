# A camera: an RTSP server with a moving picture. Arguments: port, path, pipeline.
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer

Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(sys.argv[3])
factory.set_shared(True)
# Only the frames' way that a tunnel of one TCP port can take.
factory.set_protocols(GstRtsp.RTSPLowerTrans.TCP)
server.get_mount_points().add_factory(sys.argv[2], factory)
if server.attach(None) == 0:
    sys.exit("the port cannot be listened at")
GLib.MainLoop().run()

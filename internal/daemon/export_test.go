package daemon

import "net"

// GatherMost is how many bytes wait before a writer waits too.
const GatherMost = gatherMost

// Gather makes a connection send what is written together in one call.
func Gather(c net.Conn) net.Conn { return gather(c) }

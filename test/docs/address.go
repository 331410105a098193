package docs

import (
	"math/rand/v2"
	"net"
	"strconv"
)

// FreeAddress is an address of this machine on which nothing listens, for a command that is told where to listen. Its port is none
// that the system gives to connections (from 32768 on Linux, from 49152 elsewhere), which might take it before the command does.
func FreeAddress() (address string, err error) {
	for range 100 {
		address = net.JoinHostPort("127.0.0.1", strconv.Itoa(20_000+rand.IntN(10_000)))
		var l net.Listener
		if l, err = net.Listen("tcp", address); err == nil {
			return address, l.Close()
		}
	}
	return "", err
}

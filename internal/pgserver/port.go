package pgserver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// FreePort returns a TCP port of 127.0.0.1 on which nothing listens. It is
// taken from below the range of outgoing connections: a server that is down
// for a moment would otherwise lose its port to any client, and a client that
// connects to a closed port of its own range can end up connected to itself.
func FreePort() (int, error) {
	var last error
	for range 100 {
		port := 15000 + rand.IntN(17000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			last = err
			continue
		}
		if err := l.Close(); err != nil {
			return 0, err
		}
		return port, nil
	}
	return 0, errors.Join(errors.New("no free port on 127.0.0.1 between 15000 and 31999"), last)
}

package pgq

import "syscall"

// tcpUserTimeout is TCP_USER_TIMEOUT, which the standard library does not name.
const tcpUserTimeout = 18

// giveUpUnheard makes a TCP connection end that is not heard any more; see
// unheardLimit. A unix socket needs none.
func giveUpUnheard(network, _ string, c syscall.RawConn) error {
	if network != "tcp" && network != "tcp4" && network != "tcp6" {
		return nil
	}
	var serr error
	err := c.Control(func(fd uintptr) {
		serr = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(unheardLimit.Milliseconds()))
	})
	if err != nil {
		return err
	}
	return serr
}

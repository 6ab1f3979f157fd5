package runtime

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// notifier tells systemd what the daemon does, by the protocol of sd_notify(3): datagrams to the socket that
// NOTIFY_SOCKET names. A nil notifier tells nobody.
type notifier struct {
	conn     *net.UnixConn
	log      *slog.Logger
	watchdog time.Duration // how often systemd wants a sign of life; 0: never

	beats chan struct{}
	ended chan struct{}
	idle  sync.WaitGroup
}

// notifyTime limits one datagram: a manager that does not read must not hold up the daemon.
const notifyTime = 100 * time.Millisecond

// newNotifier connects to the socket of the environment; nil when there is none.
func newNotifier(getenv func(string) string, log *slog.Logger) (*notifier, error) {
	name := getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil, nil
	}
	if strings.HasPrefix(name, "@") {
		name = "\x00" + name[1:] // abstract
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("connect to NOTIFY_SOCKET: %w", err)
	}
	n := &notifier{conn: conn, log: log, beats: make(chan struct{}, 1), ended: make(chan struct{})}
	usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64)
	if pid := getenv("WATCHDOG_PID"); err == nil && usec > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		n.watchdog = time.Duration(usec) * time.Microsecond
	}
	n.idle.Go(func() {
		for {
			select {
			case <-n.beats:
				n.send("WATCHDOG=1")
			case <-n.ended:
				return
			}
		}
	})
	return n, nil
}

// period is how often beat has to be called; 0: never.
func (n *notifier) period() time.Duration {
	if n == nil {
		return 0
	}
	return n.watchdog / 3
}

// beat feeds the watchdog. It does not block: the root actor calls it from its loop.
func (n *notifier) beat() {
	select {
	case n.beats <- struct{}{}:
	default:
	}
}

// ready says that the configuration is in force and the actors run; status is one line for people.
func (n *notifier) ready(status string) {
	lines := []string{"READY=1"}
	if status != "" {
		lines = append(lines, "STATUS="+status)
	}
	n.send(lines...)
}

// reloading says that a reload began; ready has to follow.
func (n *notifier) reloading() {
	n.send("RELOADING=1", "MONOTONIC_USEC="+strconv.FormatInt(monotonicMicros(), 10))
}

// stopping says that the end began.
func (n *notifier) stopping() { n.send("STOPPING=1", "STATUS=stopping") }

// send sends one datagram. A failure is logged and changes nothing: systemd notices what it does not hear.
func (n *notifier) send(lines ...string) {
	if n == nil {
		return
	}
	_ = n.conn.SetWriteDeadline(time.Now().Add(notifyTime)) // the write tells
	if _, err := n.conn.Write([]byte(strings.Join(lines, "\n"))); err != nil && !errors.Is(err, net.ErrClosed) {
		n.log.Warn("tell systemd", "what", lines[0], "err", err)
	}
}

// close ends the notifier.
func (n *notifier) close() {
	if n == nil {
		return
	}
	close(n.ended)
	n.idle.Wait()
	_ = n.conn.Close() // a datagram socket has nothing to lose
}

package pgtest

import (
	"testing"
	"time"
)

// Eventually polls cond until it holds. When it does not within timeout, the
// test ends with a message that names what was waited for. cond runs on the
// test's goroutine and may end the test itself.
func Eventually(t testing.TB, timeout time.Duration, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for !cond() {
		select {
		case <-deadline.C:
			t.Fatalf("waited %v in vain: %s", timeout, what)
		case <-again.C:
		}
	}
}

package runtime

import (
	"syscall"
	"unsafe"
)

// clockMonotonic is CLOCK_MONOTONIC.
const clockMonotonic = 1

// monotonicMicros is the clock by which systemd orders a reload and what it hears.
func monotonicMicros() int64 {
	var ts syscall.Timespec
	_, _, _ = syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&ts)), 0) // cannot fail with this clock
	return ts.Nano() / 1000
}

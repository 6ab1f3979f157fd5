//go:build !linux

package runtime

import "time"

// monotonicStart is when the process began; there is no systemd that could compare.
var monotonicStart = time.Now()

func monotonicMicros() int64 { return time.Since(monotonicStart).Microseconds() }

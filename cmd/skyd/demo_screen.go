package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/skytools/skyd/internal/demo"
)

// demoScreen shows the course of the demo: sentences with the time, and a table of samples whose last row is rewritten
// on a terminal. Safe for concurrent use.
type demoScreen struct {
	w      io.Writer
	live   bool
	broken func(error) // told when nobody reads any more
	begin  time.Time

	mu    sync.Mutex
	head  bool // the head of the table was printed
	open  bool // the cursor is behind a row that may be rewritten
	quiet bool
}

func newDemoScreen(w io.Writer, live bool, broken context.CancelCauseFunc) *demoScreen {
	return &demoScreen{w: w, live: live && isTerminal(w), broken: broken, begin: time.Now()}
}

// isTerminal tells whether w is a terminal that can rewrite a line.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" {
		return false
	}
	fi, err := f.Stat()
	if err != nil || fi.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(fi, null)
}

// mute shows nothing from now on.
func (s *demoScreen) mute() { s.quiet = true }

// every is how often samples are wanted.
func (s *demoScreen) every() time.Duration {
	if s.live {
		return 500 * time.Millisecond
	}
	return 2 * time.Second
}

// put writes text as it is; the caller holds mu.
func (s *demoScreen) put(text string) {
	if s.quiet {
		return
	}
	if _, err := io.WriteString(s.w, text); err != nil {
		s.broken(err)
	}
}

// say shows a sentence.
func (s *demoScreen) say(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeRow()
	s.put(fmt.Sprintf("%6.1f s  %s\n", time.Since(s.begin).Seconds(), text))
}

// closeRow keeps the row that would have been rewritten; the caller holds mu.
func (s *demoScreen) closeRow() {
	if s.open {
		s.put("\n")
		s.open = false
	}
}

// show shows a sample.
func (s *demoScreen) show(sample demo.Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.head {
		s.closeRow()
		s.put(fmt.Sprintf("          %10s %12s %8s %8s  %s\n", "written/s", "processed/s", "behind", "lag", "latency p50 / p99"))
		s.head = true
	}
	row := fmt.Sprintf("%6.1f s  %s", time.Since(s.begin).Seconds(), sampleText(sample))
	if !s.live {
		s.put(row + "\n")
		return
	}
	// Without wrapping: a row that is two lines long could not be rewritten.
	s.put("\r\x1b[?7l" + row + "\x1b[K\x1b[?7h")
	s.open = true
}

// sampleText is a row of the table.
func sampleText(s demo.Sample) string {
	if s.Down {
		return fmt.Sprintf("%10s %12s %8s %8s", "-", "-", "-", "down")
	}
	latency := "-"
	if s.P50 > 0 {
		latency = demo.Short(s.P50) + " / " + demo.Short(s.P99)
	}
	return fmt.Sprintf("%10.0f %12.0f %8d %8s  %s", s.Written, s.Processed, s.Behind, demo.Short(s.Lag), latency)
}

// end leaves the cursor at the start of a line.
func (s *demoScreen) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeRow()
}

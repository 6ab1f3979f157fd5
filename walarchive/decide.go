package walarchive

import (
	"errors"
	"path/filepath"
	"time"
)

// Exit codes of fetch. PostgreSQL takes 1 to 125 for the end of the archive: in recovery it then opens the database.
// From 126 on it stops, and nothing is lost.
const (
	FetchDone     = 0
	FetchAbsent   = 1
	FetchAway     = 200 // the storage could not be reached
	FetchGap      = 201 // the archive has a hole here
	FetchDamaged  = 202
	FetchInternal = 203 // configuration, flags, our own fault
)

// Caller is who asks for a file, which decides what an exit code means to him.
type Caller int

// The callers.
const (
	OtherCaller   Caller = iota // pg_rewind, by hand
	RecoverCaller               // a server with recovery.signal
	StandbyCaller               // a server with standby.signal: it goes on with streaming
)

// CallerIn tells who asks from the working directory of the command, which is the server's data directory.
func CallerIn(dir string) Caller {
	switch {
	case exists(filepath.Join(dir, "standby.signal")):
		return StandbyCaller
	case exists(filepath.Join(dir, "recovery.signal")):
		return RecoverCaller
	}
	return OtherCaller
}

// Finding is how a look for a file ended.
type Finding int

// The findings.
const (
	Present  Finding = iota // delivered, verified
	Absent                  // the storage said so, and nothing later is there
	Hole                    // a segment is absent, later ones are there
	Damaged                 // what is stored is not what its header says
	Away                    // the storage does not answer
	Internal                // configuration, flags, the destination, our own fault
)

// FindingOf tells the finding from an error of the archive.
func FindingOf(err error) Finding {
	var local *localError
	switch {
	case err == nil:
		return Present
	case errors.As(err, &local), errors.Is(err, ErrNoKey), errors.Is(err, ErrNotWAL), errors.Is(err, errUsage):
		return Internal
	case errors.Is(err, ErrAbsent):
		return Absent
	case errors.Is(err, ErrGap):
		return Hole
	case errors.Is(err, ErrDamaged), errors.Is(err, ErrInvalid):
		return Damaged
	}
	return Away
}

// errUsage marks what only another configuration can cure.
var errUsage = errors.New("configuration")

// Verdict is what fetch does about a finding.
type Verdict struct {
	// Exit is the exit code.
	Exit int
	// Patience is how long the file is looked for again before that.
	Patience time.Duration
	// Event: somebody should look at it, whatever the server does.
	Event bool
}

// Limits on waiting.
const (
	standbyPatience = 2 * time.Second // so that streaming takes over
	holePatience    = 2 * time.Second // segments are stored in parallel: a later one may be there first
)

// Decide is the decision table of fetch. patience is that of the configuration.
func Decide(who Caller, found Finding, patience time.Duration) Verdict {
	standby := who == StandbyCaller
	pick := func(code int) int {
		if standby {
			return FetchAbsent
		}
		return code
	}
	switch found {
	case Present:
		return Verdict{Exit: FetchDone}
	case Absent:
		return Verdict{Exit: FetchAbsent}
	case Hole:
		v := Verdict{Exit: pick(FetchGap), Event: true}
		if !standby {
			v.Patience = min(holePatience, patience)
		}
		return v
	case Damaged:
		return Verdict{Exit: pick(FetchDamaged), Event: true}
	case Away:
		if standby {
			patience = min(patience, standbyPatience)
		}
		return Verdict{Exit: pick(FetchAway), Patience: patience, Event: true}
	default:
		return Verdict{Exit: pick(FetchInternal), Event: true}
	}
}

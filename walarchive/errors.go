package walarchive

import "errors"

// Outcomes that callers branch on; storages have theirs in storage.go.
var (
	// ErrConflict is returned by Push when other content is stored under the name. Nothing was changed.
	ErrConflict = errors.New("other content is archived under this name")
	// ErrInvalid is returned for a segment that is none of this cluster: cut, torn, recycled, foreign.
	ErrInvalid = errors.New("not a valid WAL file of this cluster")
	// ErrPaused is returned by Push while archiving is paused by the operator.
	ErrPaused = errors.New("archiving is paused")
	// ErrAbsent is returned by Fetch when the archive has not got the file, and has nothing later either.
	ErrAbsent = errors.New("not in the archive")
	// ErrGap is returned by Fetch for a segment that is missing while later ones of its timeline are there.
	ErrGap = errors.New("missing in the archive, but later segments are there: the archive has a hole")
)

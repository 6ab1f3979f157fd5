package cascade

import (
	"errors"
	"fmt"

	"github.com/skytools/skyd/pgq"
)

// ErrNotFound says: the database has no node, consumer, subscriber or location of that name; code 404 of the contract.
var ErrNotFound = errors.New("not found")

// Codes of the contract that callers branch on; the rest are for people.
const (
	CodeInfo       = 100 // nothing had to be done, or an answer
	CodeDone       = 200
	CodeExists     = 201 // was so already, or existed and was overwritten
	CodeWarning    = 300 // from here on: go on, and tell
	CodeNotRoot    = 301 // demote_root, promote_branch: not a node of that type; unregister_location: not there
	CodeNotThere   = 304 // unregister_subscriber: no such subscriber
	CodeError      = 400 // from here on: stop, and roll back
	CodeConflict   = 401 // exists, or the arguments do not fit
	CodeForbidden  = 403 // unregister_location: the node itself, or its provider
	CodeNotFound   = 404
	CodeBackwards  = 405 // set_subscriber_watermark: backwards; drop_node: is its own provider
	CodeImpossible = 500
)

// Status is the answer of a function of pgq_node that did not refuse.
type Status struct {
	// Code is 1xx, 2xx or 3xx.
	Code int
	// Note is for people; its text is no contract.
	Note string
}

// Warning tells whether the caller goes on but ought to tell the note.
func (s Status) Warning() bool { return s.Code >= CodeWarning }

// StatusError is a refusal: a code of 400 and above. What the function did in a transaction is to be rolled back.
type StatusError struct {
	// Func is the function without its schema.
	Func string
	// Code is 4xx or 5xx.
	Code int
	// Note is what the function said.
	Note string
}

// Error implements error.
func (e *StatusError) Error() string {
	return fmt.Sprintf("pgq_node.%s: %s (%d)", e.Func, e.Note, e.Code)
}

// Is makes code 404 an ErrNotFound.
func (e *StatusError) Is(target error) bool { return target == ErrNotFound && e.Code == CodeNotFound }

// Code is the code of the refusal in err, 0 when there is none.
func Code(err error) int {
	var se *StatusError
	if errors.As(err, &se) {
		return se.Code
	}
	return 0
}

// Permanent tells whether somebody has to change something before a worker can go on: no such node, another node than
// expected, a role or a position that fits nothing; and whatever pgq.Permanent says.
func Permanent(err error) bool {
	for _, p := range []error{ErrNotFound, ErrOtherNode, ErrBadRole, ErrPositionLost} {
		if errors.Is(err, p) {
			return true
		}
	}
	return pgq.Permanent(err)
}

package walarchive

import "errors"

// ErrRefused is returned when a precondition does not hold; nothing was changed.
var ErrRefused = errors.New("refused")

package pgtest

import (
	"context"
	"errors"
)

// installSkyd fills the template of DB.
func installSkyd(context.Context, string) error {
	return errors.New("skyd's SQL is not there yet")
}

//go:build !river

package bench

import (
	"context"
	"errors"
	"time"

	"github.com/skytools/skyd/pgq"
)

// riverAbsent says why River cannot be measured.
const riverAbsent = "built without -tags river"

var errNoRiver = errors.New(riverAbsent)

func installRiver(context.Context, *host) error { return errNoRiver }

func riverInsert(context.Context, *host, *pgq.DB, []string) error { return errNoRiver }

func riverInsertMany(context.Context, *host, *pgq.DB, []string) error { return errNoRiver }

func fillRiver(context.Context, *host, int, int) error { return errNoRiver }

func workRiver(context.Context, *host, int, int) (int, error) { return 0, errNoRiver }

func riverConsume(time.Duration) func(ctx context.Context, h *host, db *pgq.DB, got func(data string)) error {
	return func(context.Context, *host, *pgq.DB, func(data string)) error { return errNoRiver }
}

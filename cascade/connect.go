package cascade

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/skytools/skyd/pgq"
)

// untrusted are the settings that a location from a database may not have: they make this process read files, or carry
// options to the server that nobody here asked for.
var untrusted = []string{"servicefile", "passfile", "sslkey", "sslcert", "options"}

// OpenLocation makes a pool for the location of a node, as the database tells it; it does not connect. Settings that
// only local configuration may make (servicefile, passfile, sslkey, sslcert, options) are refused with pgq.ErrBadParameter;
// passwords may come from the password file, and service= from the service file, of this process.
func OpenLocation(ctx context.Context, location string, opts ...pgq.Option) (*pgq.DB, error) {
	for _, name := range pgq.SettingsOf(location) {
		if slices.Contains(untrusted, name) {
			return nil, fmt.Errorf("location %q: setting %s: %w: it cannot come from a database; set the location anew without it",
				pgq.MaskDSN(location), name, pgq.ErrBadParameter)
		}
	}
	return pgq.Open(ctx, location, opts...)
}

// nudgeChannel is the notification channel on which the workers and consumers of a node are told to look at their rows.
// Queue names are longer than channel names may be.
func nudgeChannel(queue string) string {
	sum := md5.Sum([]byte(queue))
	return "skyd_node_" + hex.EncodeToString(sum[:])
}

// Nudge makes skyd's worker and consumers of the node of a queue look at their rows at once, with the commit of q's
// transaction: for whoever changed flags or provider and waits for them to be seen. Without it they look several times
// a second.
func Nudge(ctx context.Context, q pgq.Querier, queue string) error {
	if _, err := q.Exec(ctx, `select pg_catalog.pg_notify($1, '')`, nudgeChannel(queue)); err != nil {
		return fmt.Errorf("nudge the node of queue %s: %w", queue, pgq.Classify(err))
	}
	return nil
}

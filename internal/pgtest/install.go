package pgtest

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgqsql"
)

// installSkyd fills the template of DB.
func installSkyd(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := pgqsql.Install(ctx, conn, pgqsql.Options{}); err != nil {
		return fmt.Errorf("install skyd's SQL: %w", err)
	}
	return nil
}

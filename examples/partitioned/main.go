package main

import (
	"context"
	"errors"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: partitioned NAME")
	}
	db, err := pgq.Open(ctx, os.Getenv("SKYD_DSN"), pgq.WithApplicationName("partitioned"))
	if err != nil {
		return err
	}
	defer db.Close()
	o := pgq.PartitionedOptions{TTL: 10 * time.Second, Create: 16}
	return pgq.NewPartitionedConsumer(db, "orders", "mails-in-order", args[0], pgq.BatchTxHandler(mail), o).Run(ctx)
}

// mail notes what was mailed, in the transaction that finishes the batch: each
// order once, whatever breaks.
func mail(ctx context.Context, tx pgx.Tx, b *pgq.Batch) error {
	for ev, err := range b.Events(ctx) {
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `insert into public.mails values ($1, $2)`, ev.Extra3, ev.Data); err != nil {
			return err
		}
		log.Printf("mailed %s about %s", ev.Extra3.String, ev.Data.String)
	}
	return nil
}

package main

import (
	"context"
	"log"
	"os"
	"os/signal"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	db, err := pgq.Open(ctx, os.Getenv("SKYD_DSN"), pgq.WithApplicationName("consumer"))
	if err != nil {
		return err
	}
	defer db.Close()
	o := pgq.ConsumerOptions{Register: true}
	return pgq.NewConsumer(db, "orders", "mailer", pgq.BatchTxHandler(mail), o).Run(ctx)
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

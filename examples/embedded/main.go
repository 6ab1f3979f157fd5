package main

import (
	"context"
	"log"
	"log/slog"
	"os"
	"os/signal"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/pgq"
	"github.com/skytools/skyd/runtime"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	c := configs.DefaultConfig()
	// Another name for each process: leases and spans are told apart by it.
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	c.Instance = host + "-mailers"
	// The program has servers of its own.
	c.HTTP.Listen, c.Control.Socket = configs.None, configs.None
	c.Databases = []configs.Database{{
		Name: "main", DSN: os.Getenv("SKYD_DSN"), CheckPeriod: c.CheckPeriod,
		Ticker: c.Ticker, Maintenance: c.Maintenance,
	}}

	mailers := configs.DefaultConsumer()
	mailers.Name, mailers.Queue = "mailers", "orders"
	daemon, err := runtime.New(ctx, c, runtime.Options{
		Log: slog.Default(),
		Consumers: []runtime.Consumer{{
			Config:  mailers,
			Handler: func(int) pgq.Handler { return pgq.BatchTxHandler(mail) },
		}},
	})
	if err != nil {
		return err
	}
	return daemon.Run(ctx)
}

// mail notes what was mailed, in the transaction that finishes the batch.
func mail(ctx context.Context, tx pgx.Tx, b *pgq.Batch) error {
	for ev, err := range b.Events(ctx) {
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `insert into public.mails values ($1, $2)`, ev.Extra3, ev.Data); err != nil {
			return err
		}
		slog.InfoContext(ctx, "mailed", "customer", ev.Extra3.String, "item", ev.Data.String)
	}
	return nil
}

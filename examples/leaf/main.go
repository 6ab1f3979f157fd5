package main

import (
	"context"
	"iter"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/cascade"
	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/pgq"
	"github.com/skytools/skyd/runtime"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	dsn := os.Getenv("SKYD_DSN")
	if err := makeTable(ctx, dsn); err != nil {
		return err
	}
	c := configs.DefaultConfig()
	c.Instance = os.Getenv("SKYD_NODE")
	c.HTTP.Listen, c.Control.Socket = configs.None, configs.None
	c.Databases = []configs.Database{{
		Name: "main", DSN: dsn, CheckPeriod: c.CheckPeriod, Ticker: c.Ticker, Maintenance: c.Maintenance,
	}}
	node := configs.DefaultNode()
	node.Queue, node.Name = "orders", os.Getenv("SKYD_NODE")
	node.WatermarkPeriod, node.StepTimeout = 5*time.Second, 10*time.Second
	daemon, err := runtime.New(ctx, c, runtime.Options{
		Log:   slog.Default(),
		Nodes: []runtime.Node{{Config: node, Applier: orders{}}},
	})
	if err != nil {
		return err
	}
	return daemon.Run(ctx)
}

// makeTable makes the table when it is not there.
func makeTable(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, `create table if not exists public.arrived (tick bigint, id bigint, type text, data text)`)
	return err
}

// orders writes down what arrived.
type orders struct{}

// Apply implements cascade.Applier.
func (orders) Apply(ctx context.Context, tx pgx.Tx, b cascade.Batch, events iter.Seq2[*pgq.Event, error]) error {
	for ev, err := range events {
		if err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `insert into public.arrived values ($1, $2, $3, $4)`, b.Tick, ev.ID, ev.Type, ev.Data)
		if err != nil {
			return err
		}
	}
	return nil
}

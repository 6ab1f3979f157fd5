package main

import (
	"context"
	"errors"
	"log"
	"os"
	"os/signal"

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
	if len(args) != 2 {
		return errors.New("usage: producer CUSTOMER ITEM")
	}
	db, err := pgq.Open(ctx, os.Getenv("SKYD_DSN"), pgq.WithApplicationName("producer"))
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := pgq.CreateQueue(ctx, db, "orders"); err != nil {
		return err
	}
	const tables = `create table if not exists public.orders (customer text, item text);
create table if not exists public.mails (customer text, item text)`
	if _, err := db.Exec(ctx, tables, pgx.QueryExecModeSimpleProtocol); err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `insert into public.orders values ($1, $2)`, args[0], args[1]); err != nil {
			return err
		}
		event := pgq.NewEvent{Type: pgq.Str("new"), Data: pgq.Str(args[1])}.WithKey(args[0])
		_, err := pgq.Insert(ctx, tx, "orders", event)
		return err
	})
}

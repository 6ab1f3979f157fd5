package pgq_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/skytools/skyd/pgq"
)

// A producer, a tick, and a consumer. In production the ticks come from a
// daemon, and Run goes on until the program ends.
func Example() {
	dsn, remove := database()
	defer remove()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	db, err := pgq.Open(ctx, dsn, pgq.WithApplicationName("shop"))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	if _, err := pgq.CreateQueue(ctx, db, "orders"); err != nil {
		log.Fatal(err)
	}
	if _, err := pgq.RegisterConsumer(ctx, db, "orders", "mailer"); err != nil {
		log.Fatal(err)
	}
	for _, order := range []string{"shoes", "socks"} {
		if _, err := pgq.Insert(ctx, db, "orders", pgq.NewEvent{Type: pgq.Str("new"), Data: pgq.Str(order)}); err != nil {
			log.Fatal(err)
		}
	}
	if _, err := pgq.ForceTick(ctx, db, "orders"); err != nil { // no patience for ticker_max_lag
		log.Fatal(err)
	}
	if _, _, err := pgq.Tick(ctx, db, "orders"); err != nil {
		log.Fatal(err)
	}

	consumer := pgq.NewConsumer(db, "orders", "mailer", pgq.EventHandler(func(_ context.Context, ev *pgq.Event) error {
		fmt.Println("mail about", ev.Data.String)
		if ev.Data.String == "socks" {
			cancel() // enough for an example; the batch is still finished
		}
		return nil
	}), pgq.ConsumerOptions{})
	if err := consumer.Run(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// mail about shoes
	// mail about socks
}

// The event is part of the transaction: it is delivered exactly if the rest of
// the transaction happened.
func ExampleInsert() {
	ctx, db, done := queue("orders")
	defer done()
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `create table public.orders (what text)`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `insert into public.orders values ('shoes')`); err != nil {
			return err
		}
		id, err := pgq.Insert(ctx, tx, "orders", pgq.NewEvent{Type: pgq.Str("new"), Data: pgq.Str("shoes")})
		fmt.Println("event", id)
		return err
	})
	fmt.Println(err)
	// Output:
	// event 1
	// <nil>
}

// Many events cost one round trip, and either all of them are inserted or none.
func ExampleProducer() {
	ctx, db, done := queue("orders")
	defer done()
	producer := pgq.NewProducer(pgq.ProducerOptions{NoTraceCarrier: true})
	ids, err := producer.InsertBatch(ctx, db, "orders", []pgq.NewEvent{
		{Type: pgq.Str("new"), Data: pgq.Str("shoes")},
		{Type: pgq.Str("new"), Data: pgq.Str("socks")},
		{Type: pgq.Str("audit")}, // data is null, which is not the same as empty
	})
	fmt.Println(ids, err)
	_, err = producer.Insert(ctx, db, "missing", pgq.NewEvent{})
	fmt.Println(errors.Is(err, pgq.ErrQueueNotFound))
	// Output:
	// [1 2 3] <nil>
	// true
}

// What the handler writes commits together with the end of the batch: exactly
// once, whatever breaks.
func ExampleBatchTxHandler() {
	ctx, db, done := queue("orders")
	defer done()
	if _, err := db.Exec(ctx, `create table public.stock (what text primary key, sold int)`); err != nil {
		log.Fatal(err)
	}
	events := []pgq.NewEvent{{Data: pgq.Str("shoes")}, {Data: pgq.Str("socks")}, {Data: pgq.Str("shoes")}}
	if _, err := pgq.InsertBatch(ctx, db, "orders", events); err != nil {
		log.Fatal(err)
	}
	if _, _, err := pgq.Tick(ctx, db, "orders"); err != nil {
		log.Fatal(err)
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	count := pgq.BatchTxHandler(func(ctx context.Context, tx pgx.Tx, b *pgq.Batch) error {
		for ev, err := range b.Events(ctx) {
			if err != nil {
				return err
			}
			_, err = tx.Exec(ctx, `insert into public.stock as s values ($1, 1)
				on conflict (what) do update set sold = s.sold + 1`, ev.Data)
			if err != nil {
				return err
			}
		}
		cancel()
		return nil
	})
	if err := pgq.NewConsumer(db, "orders", "stock", count, pgq.ConsumerOptions{}).Run(ctx); err != nil {
		log.Fatal(err)
	}

	var shoes int
	err := db.QueryRow(context.Background(), `select sold from public.stock where what = 'shoes'`).Scan(&shoes)
	fmt.Println(shoes, err)
	// Output:
	// 2 <nil>
}

// Without Run: one batch by hand. Events are read in chunks, so a batch may be
// bigger than memory.
func ExampleNextBatch() {
	ctx, db, done := queue("orders")
	defer done()
	if _, err := pgq.Insert(ctx, db, "orders", pgq.NewEvent{Data: pgq.Str("shoes")}); err != nil {
		log.Fatal(err)
	}
	batch, err := pgq.NextBatch(ctx, db, "orders", "stock")
	fmt.Println(batch, err) // no tick, no batch
	if _, _, err := pgq.Tick(ctx, db, "orders"); err != nil {
		log.Fatal(err)
	}
	if batch, err = pgq.NextBatch(ctx, db, "orders", "stock"); err != nil {
		log.Fatal(err)
	}
	for ev, err := range batch.Events(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(ev.ID, ev.Data.String)
	}
	fmt.Println(batch.Finish(ctx))
	fmt.Println(errors.Is(batch.Finish(ctx), pgq.ErrBatchGone))
	// Output:
	// <nil> <nil>
	// 1 shoes
	// <nil>
	// true
}

// An event that cannot be handled now comes back later; the others go on.
func ExampleRetryAfter() {
	ctx, db, done := queue("orders")
	defer done()
	events := []pgq.NewEvent{{Data: pgq.Str("busy")}, {Data: pgq.Str("fine")}}
	if _, err := pgq.InsertBatch(ctx, db, "orders", events); err != nil {
		log.Fatal(err)
	}
	if _, _, err := pgq.Tick(ctx, db, "orders"); err != nil {
		log.Fatal(err)
	}
	rctx, cancel := context.WithCancel(ctx)
	defer cancel()
	handle := pgq.EventHandler(func(_ context.Context, ev *pgq.Event) error {
		if ev.Data.String == "busy" {
			return pgq.RetryAfter(time.Millisecond, errors.New("try later"))
		}
		fmt.Println("done:", ev.Data.String)
		cancel()
		return nil
	})
	if err := pgq.NewConsumer(db, "orders", "stock", handle, pgq.ConsumerOptions{}).Run(rctx); err != nil {
		log.Fatal(err)
	}
	info, err := pgq.GetConsumerInfo(ctx, db, "orders", "stock")
	fmt.Println("open batch:", info.CurrentBatch, err)
	// Output:
	// done: fine
	// open batch: 0 <nil>
}

// What a ticker does: one look at all queues, a decision for each, and a tick
// where one is due.
func ExampleTickState_Due() {
	ctx, db, done := queue("orders")
	defer done()
	states, err := pgq.LoadTickStates(ctx, db)
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range states {
		if s.Due() {
			tick, made, err := pgq.Tick(ctx, db, s.Queue)
			fmt.Println(s.Queue, tick, made, err)
		}
	}
	// Output:
	// orders 2 true <nil>
}

func ExampleMaskDSN() {
	fmt.Println(pgq.MaskDSN("postgres://shop:secret@db.example.com/shop?sslmode=verify-full"))
	fmt.Println(pgq.MaskDSN("host=db.example.com user=shop password='my secret'"))
	// Output:
	// postgres://shop:***@db.example.com/shop?sslmode=verify-full
	// host=db.example.com user=shop password=***
}

// queue gives an example a queue that ticks at once, with a consumer "stock".
func queue(name string) (ctx context.Context, db *pgq.DB, done func()) {
	dsn, remove := database()
	ctx = context.Background()
	db, err := pgq.Open(ctx, dsn)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := pgq.CreateQueue(ctx, db, name); err != nil {
		log.Fatal(err)
	}
	if _, err := pgq.RegisterConsumer(ctx, db, name, "stock"); err != nil {
		log.Fatal(err)
	}
	if err := pgq.SetQueueConfig(ctx, db, name, "ticker_max_lag", "0"); err != nil {
		log.Fatal(err)
	}
	return ctx, db, func() {
		db.Close()
		remove()
	}
}

// Command consumer takes the events of the producer, each exactly once. Ticks
// must come from somewhere: skyd run.
//
//	go run ./examples/consumer
package main

// Command producer inserts an order and its event in one transaction, with the
// customer as key for ordered groups:
//
//	go run ./examples/producer alice shoes
package main

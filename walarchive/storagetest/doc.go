// Package storagetest is the conformance suite of every walarchive.Storage, and a storage that fails on demand.
package storagetest

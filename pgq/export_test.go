package pgq

// Classify lets tests feed errors of statements this package does not make.
var Classify = classify

// Package memory keeps a store in memory, for tests and trials: all rules hold, nothing survives the process.
//
//	db := memory.New()
//	defer db.Close()
package memory

package main

// design is how the parts that decide at scale work: as the code has them, or as the model recommends.
type design struct {
	Name string `json:"name"`
	// Map is what a reader fetches when there is a newer map.
	Map mapWay `json:"map"`
	// PushAll: the operator itself brings every entry and head to every super-node; else to the ranges concerned and a few
	// others, and the super-nodes tell each other.
	PushAll bool `json:"push_all"`
	// RepairAll: every super-node compares the tables that are everywhere with every other one.
	RepairAll bool `json:"repair_all"`
	// Batch is the least time between two maps in seconds, 0 for a map with every change.
	Batch float64 `json:"batch_s"`
}

type mapWay string

const (
	mapChanges mapWay = "changes" // the entries that are newer than the map held, and the whole map after an absence
	mapOwn     mapWay = "own"     // the ranges of the own domain and a handful of super-nodes, proved by a tree's hashes
)

// few is to how many super-nodes a thing goes that all are to have, where these pass it on; so many are also asked.
const few = 8

func asBuilt() design {
	return design{Name: "as built", Map: mapChanges, PushAll: true, RepairAll: true}
}

// passedOn leaves readers as they are, and has super-nodes tell each other what all of them are to have.
func passedOn() design { return design{Name: "passed on", Map: mapChanges, Batch: 60} }

func recommended() design { return design{Name: "recommended", Map: mapOwn, Batch: 60} }

// designs are those that are compared; the plots of causes show the first and the last.
func designs() []design { return []design{asBuilt(), passedOn(), recommended()} }

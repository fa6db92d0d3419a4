// Prints where the members of structs are that Onlooker reads, from this program's own DWARF.
package main

import (
	"debug/dwarf"
	"debug/elf"
	"fmt"
	"log"
	"net/http"
	"os"
	"runtime"
)

// In the order of the table's columns.
var members = [][2]string{
	{"runtime.g", "goid"},
	{"runtime.g", "parentGoid"},
	{"net/http.persistConn", "conn"},
	{"net.netFD", "pfd"},
	{"internal/poll.FD", "Sysfd"},
	{"net.netFD", "family"},
	{"net.netFD", "sotype"},
	{"runtime.p", "goidcache"},
}

func main() {
	path, err := os.Executable()
	if err != nil {
		log.Fatal(err)
	}
	file, err := elf.Open(path)
	if err != nil {
		log.Fatal(err)
	}
	data, err := file.DWARF()
	if err != nil {
		log.Fatal(err)
	}
	found := map[[2]string]int64{}
	for reader := data.Reader(); ; {
		entry, err := reader.Next()
		if err != nil {
			log.Fatal(err)
		}
		if entry == nil {
			break
		}
		if entry.Tag != dwarf.TagStructType || entry.Val(dwarf.AttrName) == nil {
			continue
		}
		kind, err := data.Type(entry.Offset)
		if err != nil {
			log.Fatal(err)
		}
		structure, ok := kind.(*dwarf.StructType)
		if !ok {
			continue
		}
		for _, member := range members {
			if structure.StructName == member[0] {
				for _, field := range structure.Field {
					if field.Name == member[1] {
						found[member] = field.ByteOffset
					}
				}
			}
		}
	}
	fmt.Print(runtime.Version())
	for _, member := range members {
		if offset, ok := found[member]; ok {
			fmt.Print(" ", offset)
		} else {
			fmt.Print(" -")
		}
	}
	fmt.Println()
	// Links what a client of net/http needs.
	if len(os.Args) > 1 {
		fmt.Println(http.Get(os.Args[1]))
	}
}

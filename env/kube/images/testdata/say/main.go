// Command say is a program for the tests of package images: it says what its environment tells it to.
package main

import (
	"fmt"
	"os"
)

func main() { fmt.Println(os.Getenv("SAY")) }

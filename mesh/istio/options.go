package istio

import "errors"

// Option changes how documents are compiled.
type Option func(*compiler)

// ReadFile reads a file that a document names, such as a certificate. The name is the one that the document says.
type ReadFile func(name string) ([]byte, error)

// Files lets documents name files. Without it there are none.
func Files(read ReadFile) Option { return func(c *compiler) { c.files = read } }

func noFiles(string) ([]byte, error) { return nil, errors.New("no files can be read here") }

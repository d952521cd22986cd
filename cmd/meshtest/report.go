package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"meshtest.dev/meshtest/reports"
)

func reportCommand(s streams) *cobra.Command {
	var kinds []string
	var out string
	cmd := &cobra.Command{
		Use: "report DIR|FILE", Short: "Render the reports of a run again from its journal",
		Long: `Render the reports of a run from its journal: of an old run, or of one that was killed. The exit code says whether it rendered, not what
the verdict was.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			for _, kind := range kinds {
				if !slices.Contains(reports.Kinds(), kind) {
					return usageError("the reports are "+strings.Join(reports.Kinds(), ", "), "unknown report %q", kind)
				}
			}
			story, err := reports.Open(args[0])
			if err != nil {
				code := exitEnvironment
				if errors.Is(err, fs.ErrNotExist) {
					code = exitUsage
				}
				return exitError{code: code, text: err.Error(), hint: "give the folder of a run, or the journal.ndjson in it"}
			}
			into := out
			if into == "" {
				into = folderOf(args[0])
			}
			written, err := reports.WriteStory(story, into, kinds)
			for _, path := range written {
				fmt.Fprintln(s.out, path)
			}
			if err != nil {
				return exitError{code: exitEnvironment, text: err.Error()}
			}
			fmt.Fprintf(s.err, "%s: %s: %s\n", story.Started.Scenario, story.Finished.Verdict, story.Finished.Reason)
			return nil
		},
	}
	cmd.Flags().StringSliceVar(&kinds, "report", reports.Kinds(), "reports to `write`")
	cmd.Flags().StringVar(&out, "out", "", "`folder` to write to (default: the run's)")
	return cmd
}

func folderOf(path string) string {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return path
	}
	return filepath.Dir(path)
}

// appendSummary adds the Markdown report to a CI job's summary.
func appendSummary(path, out string) error {
	story, err := reports.Open(out)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("writing the job's summary: %w", err)
	}
	defer f.Close()
	return reports.WriteMarkdown(f, story)
}

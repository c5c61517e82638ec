"""Reports of runs, comparisons and studies: report.json, pages, model cards and tables, all written here."""

"""What tests share: servers, journals, runs, workbooks, hostile texts."""

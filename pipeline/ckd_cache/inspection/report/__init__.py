"""The report: a page of HTML that needs nothing but itself."""

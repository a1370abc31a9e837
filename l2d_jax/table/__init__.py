"""From a table of cases and people's answers to a team that decides on new cases."""

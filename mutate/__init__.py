"""From parents to a proposal: operators, and the checks that a proposal passes before it trains."""

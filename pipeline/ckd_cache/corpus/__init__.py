"""From sources of documents to segments and masked examples."""

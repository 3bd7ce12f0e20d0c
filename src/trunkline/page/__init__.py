"""The live page of the demo: the rendered dashboards drawn from the workspace, and a map of the fleet.

process.py    starting and ending the page's own process
__main__.py   what runs in it
site.py       the pages themselves, with NiceGUI
fleet_map.py  accounts, regions, tasks, the role, the workspace; who is healthy and who is stale
troubles.py   what the demo's buttons break and mend
doctor.py     the doctor of one collector, run where that collector runs
asking.py     the workspace by signed queries, the simulator by its control socket
reading.py    what is drawn of Grafana's model, and what a dashboard may not use
filling.py    variables: what they offer, and queries filled in
charts.py     lines and areas, for ECharts
markup.py     everything else, as HTML
kept.py       HTML that changes without losing the keyboard's focus
units.py      numbers with Grafana's units
browser.py    a headless browser
pictures.py   the dashboards as PNG
"""

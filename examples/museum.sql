-- A small museum, as a program without an ORM would keep it. All artists and works are invented.
--   sqlite3 museum.db < examples/museum.sql
--   psql museum -f examples/museum.sql

BEGIN;

CREATE TABLE artist (
  id INTEGER PRIMARY KEY,
  name VARCHAR(80) NOT NULL,
  country VARCHAR(40) NOT NULL,
  born INTEGER,
  died INTEGER
);

CREATE TABLE artwork (
  accession VARCHAR(10) PRIMARY KEY,
  artist_id INTEGER NOT NULL REFERENCES artist (id),
  title VARCHAR(120) NOT NULL,
  description TEXT,
  medium VARCHAR(60) NOT NULL,
  year INTEGER,
  height_cm NUMERIC(6, 1),
  acquired DATE,
  on_display BOOLEAN NOT NULL DEFAULT FALSE
);

CREATE TABLE subject (
  id INTEGER PRIMARY KEY,
  name VARCHAR(40) NOT NULL UNIQUE
);

CREATE TABLE artwork_subject (
  accession VARCHAR(10) NOT NULL REFERENCES artwork (accession) ON DELETE CASCADE,
  subject_id INTEGER NOT NULL REFERENCES subject (id),
  PRIMARY KEY (accession, subject_id)
);

INSERT INTO artist (id, name, country, born, died) VALUES
  (1, 'Ilse Marrowby', 'Britain', 1811, 1879),
  (2, 'Tobias Fenn', 'Britain', 1868, 1934),
  (3, 'Solveig Aasheim', 'Norway', 1852, 1921),
  (4, 'Matteo Corvini', 'Italy', 1790, 1848),
  (5, 'Adaeze Nwokoro', 'Nigeria', 1947, NULL),
  (6, 'Henrike Voss', 'Germany', 1899, 1971),
  (7, 'Emeric Dulac', 'France', 1833, 1902),
  (8, 'Yuki Tanabe', 'Japan', 1961, NULL),
  (9, 'Rosa Ibarrola', 'Spain', 1925, 2003),
  (10, 'Unknown master', 'Flanders', NULL, NULL);

INSERT INTO artwork (accession, artist_id, title, description, medium, year, height_cm, acquired, on_display) VALUES
  ('M-001', 1, 'Gale off the Point', 'A fishing smack runs for harbour under a torn sail; the crew bail, and the lighthouse is hidden by spray.', 'Oil on canvas', 1842, 92.5, '1891-04-02', TRUE),
  ('M-002', 1, 'The Wreckers'' Beach', 'Villagers gather timber and barrels at dawn from a ship that went down in the night.', 'Oil on canvas', 1846, 110, '1891-04-02', TRUE),
  ('M-003', 1, 'Calm after Rain', 'An estuary without a breath of wind, and three boats aground on the mud.', 'Watercolour on paper', 1851, 31.2, '1902-11-18', FALSE),
  ('M-004', 1, 'Study of Clouds, Evening', 'Cumulus over a dark horizon, with colour notes in the margin.', 'Watercolour on paper', 1839, 18, '1902-11-18', FALSE),
  ('M-005', 1, 'Mending Nets', 'Two women and a child on a harbour wall, their laps full of brown net.', 'Oil on panel', 1855, 40.3, '1910-06-30', TRUE),
  ('M-006', 2, 'Shift''s End', 'Miners walk home through snow under gas lamps, faces black but for the eyes.', 'Oil on canvas', 1907, 76, '1935-01-15', TRUE),
  ('M-007', 2, 'The Lock-out', 'Hands in pockets, men wait outside closed factory gates; a speaker has climbed on a cart.', 'Oil on canvas', 1912, 130, '1935-01-15', TRUE),
  ('M-008', 2, 'Allotments, Sunday', 'Rows of beans and sheds made of old doors; a grandfather sleeps in a chair.', 'Oil on board', 1921, 45.7, '1936-09-09', FALSE),
  ('M-009', 2, 'Portrait of a Signalwoman', 'She sits upright in railway uniform, one hand on a lever.', 'Oil on canvas', 1917, 102, '1936-09-09', TRUE),
  ('M-010', 2, 'Canteen', 'Steam, tin plates and elbows: sixty people eat in a quarter of an hour.', 'Lithograph on paper', 1924, 38, '1951-03-21', FALSE),
  ('M-011', 3, 'Winter Road, Valdres', 'A sledge track between birches, blue shadows, and smoke from one chimney.', 'Oil on canvas', 1889, 64, '1923-02-27', TRUE),
  ('M-012', 3, 'Midnight, June', 'Young people row on a fjord by a sun that does not set.', 'Oil on canvas', 1893, 88.8, '1923-02-27', TRUE),
  ('M-013', 3, 'The Convalescent', 'A pale girl in a wicker chair is turned to an open window; medicine on the sill.', 'Pastel on paper', 1884, 52, '1930-10-10', FALSE),
  ('M-014', 3, 'Potato Harvest', 'Bent backs in a wet field, a horse, a sky the colour of slate.', 'Oil on canvas', 1897, 71, '1930-10-10', FALSE),
  ('M-015', 3, 'Letter from America', 'A family at a kitchen table listens while the eldest reads aloud.', 'Oil on canvas', 1899, 95, '1944-05-05', TRUE),
  ('M-016', 4, 'Ruins with Goats', 'A broken aqueduct, ivy, and a herdsman asleep in the shade of an arch.', 'Oil on canvas', 1822, 60, '1878-12-01', TRUE),
  ('M-017', 4, 'View of the Bay with the Volcano', 'Fishing boats in a pink dawn; above them a thin plume of ash.', 'Oil on copper', 1831, 28.4, '1878-12-01', TRUE),
  ('M-018', 4, 'The Eruption by Night', 'Lava pours down a slope, people flee with mattresses and a painted saint.', 'Oil on canvas', 1834, 120, '1880-07-19', TRUE),
  ('M-019', 4, 'Portrait of an Anatomist', 'An old physician points to a drawing of a heart.', 'Oil on canvas', 1827, 81, '1880-07-19', FALSE),
  ('M-020', 4, 'Market beneath the Colonnade', 'Melons, hens, quarrelling buyers, and a monk who counts coins.', 'Oil on canvas', 1829, 77.5, '1899-08-08', FALSE),
  ('M-021', 5, 'Night Bus to Onitsha', 'Sleeping passengers in the glow of a dashboard, one child awake.', 'Acrylic on canvas', 1983, 140, '1998-03-14', TRUE),
  ('M-022', 5, 'My Mother''s Radio', 'A transistor set with a cracked case, on lace, in front of family photographs.', 'Acrylic on canvas', 1991, 60, '1998-03-14', TRUE),
  ('M-023', 5, 'Harmattan', 'Dust turns noon to amber; a cyclist holds a cloth over his mouth.', 'Acrylic on canvas', 1987, 152, '2004-06-01', FALSE),
  ('M-024', 5, 'Generator Song', 'A street of cables, lit shops, and small engines that never rest.', 'Mixed media on board', 2006, 122, '2009-01-30', TRUE),
  ('M-025', 5, 'Harvest of Yams', 'Farmers stack tubers as tall as a child, and a dog guards them.', 'Linocut on paper', 1979, 45, '2009-01-30', FALSE),
  ('M-026', 6, 'Stairwell, 1931', 'Grey steps turn around an empty shaft; far below somebody waits.', 'Oil on canvas', 1931, 90, '1962-04-24', TRUE),
  ('M-027', 6, 'Sleepless', 'A bed, a clock without hands, a window full of other windows.', 'Etching on paper', 1929, 24.6, '1962-04-24', FALSE),
  ('M-028', 6, 'The Empty Chair', 'At a table laid for five, four people look at their plates.', 'Oil on canvas', 1946, 84, '1973-10-02', TRUE),
  ('M-029', 6, 'Rubble Women', 'A chain of women pass bricks from a bombed house from hand to hand.', 'Charcoal on paper', 1947, 70, '1973-10-02', TRUE),
  ('M-030', 6, 'Composition in Ochre', 'Interlocking arcs and one red square, slightly askew.', 'Oil on canvas', 1952, 100, '1973-10-02', FALSE),
  ('M-031', 7, 'At the Milliner''s', 'A customer tries a hat with feathers before two mirrors.', 'Pastel on paper', 1881, 58, '1919-02-11', TRUE),
  ('M-032', 7, 'Orchestra Pit', 'Bald heads, a bassoon, and above them the lit legs of dancers.', 'Oil on canvas', 1876, 73, '1919-02-11', TRUE),
  ('M-033', 7, 'Poplars by the Canal', 'Trees and their reflections, in strokes that end where the water moves.', 'Oil on canvas', 1888, 65.1, '1921-12-20', TRUE),
  ('M-034', 7, 'Boulevard in the Wet', 'Umbrellas, carriages and yellow lamps seen from a third floor.', 'Oil on canvas', 1879, 81.3, '1921-12-20', TRUE),
  ('M-035', 7, 'Still Life with Oysters', 'A knife, half a lemon, a white cloth and nine open shells.', 'Oil on panel', 1869, 33, '1921-12-20', FALSE),
  ('M-036', 8, 'Vending Machine, Hokkaido', 'A lit box alone in a snowfield at two in the morning.', 'Photograph, colour', 1999, 80, '2011-05-17', TRUE),
  ('M-037', 8, 'Commuters (12 Minutes)', 'One exposure of a platform: the clock is sharp, the crowd is mist.', 'Photograph, black and white', 2003, 100, '2011-05-17', TRUE),
  ('M-038', 8, 'Tide Tables', 'Seawater evaporated on steel plates, one for each day of a month.', 'Salt on steel', 2012, 30, '2015-09-22', FALSE),
  ('M-039', 8, 'Grandmother''s Garden as Data', 'Forty years of frost dates, knitted in two colours of wool.', 'Textile', 2017, 210, '2019-02-05', TRUE),
  ('M-040', 8, 'Echo Room', 'Visitors'' footsteps are played back to them a minute later.', 'Sound installation', 2014, NULL, '2019-02-05', FALSE),
  ('M-041', 9, 'Bread Queue', 'Coats and kerchiefs along a wall, and a guard who looks away.', 'Woodcut on paper', 1951, 41, '1988-11-11', TRUE),
  ('M-042', 9, 'The Olive Pickers', 'Ladders in silver trees; a mule, a jug, the hills bare behind.', 'Oil on canvas', 1958, 89, '1988-11-11', TRUE),
  ('M-043', 9, 'Bullring, Empty', 'Sand, shadow and the numbers of seats; no animal, no crowd.', 'Oil on canvas', 1964, 97, '1990-04-03', FALSE),
  ('M-044', 9, 'Widow at the Ferry', 'A woman in black with a birdcage, the far bank lost in fog.', 'Oil on canvas', 1955, 78, '1990-04-03', TRUE),
  ('M-045', 9, 'Kitchen, Four in the Morning', 'A baker''s arms are white to the elbow; loaves rise beneath cloths.', 'Oil on board', 1967, 55.5, '2004-08-16', FALSE),
  ('M-046', 10, 'Annunciation with a Cat', 'An angel kneels on tiles, and a tabby watches its wings.', 'Tempera on oak', 1486, 47, '1867-01-01', TRUE),
  ('M-047', 10, 'The Tax Collectors', 'Two men in furred hoods weigh coins; a beggar''s face is at the window.', 'Oil on oak', 1520, 66, '1867-01-01', TRUE),
  ('M-048', 10, 'Triptych of the Plague Saints', 'Saints in boils and armour hold arrows above a walled town.', 'Oil on oak', 1503, 140, '1871-05-29', FALSE),
  ('M-049', 10, 'Donor with a Letter', NULL, 'Oil on oak', NULL, 35, '1871-05-29', FALSE),
  ('M-050', 10, 'Landscape with the Flight into Egypt', 'Tiny travellers on a ridge; rivers, mills and blue mountains to the edge of the world.', 'Oil on oak', 1530, 52.5, '1884-03-03', TRUE);

INSERT INTO subject (id, name) VALUES
  (1, 'sea'), (2, 'work'), (3, 'winter'), (4, 'portrait'), (5, 'city'), (6, 'family'), (7, 'religion'), (8, 'disaster'),
  (9, 'landscape'), (10, 'food'), (11, 'night'), (12, 'war');

INSERT INTO artwork_subject (accession, subject_id) VALUES
  ('M-001', 1), ('M-001', 8), ('M-002', 1), ('M-002', 8), ('M-003', 1), ('M-003', 9), ('M-004', 9), ('M-005', 1),
  ('M-005', 2), ('M-006', 2), ('M-006', 3), ('M-007', 2), ('M-007', 5), ('M-008', 10), ('M-009', 4), ('M-009', 2),
  ('M-010', 2), ('M-010', 10), ('M-011', 3), ('M-011', 9), ('M-012', 11), ('M-012', 1), ('M-013', 4), ('M-014', 2),
  ('M-014', 10), ('M-015', 6), ('M-016', 9), ('M-017', 1), ('M-017', 9), ('M-018', 8), ('M-018', 11), ('M-019', 4),
  ('M-020', 10), ('M-020', 5), ('M-021', 11), ('M-021', 6), ('M-022', 6), ('M-023', 9), ('M-024', 5), ('M-025', 10),
  ('M-025', 2), ('M-026', 5), ('M-027', 11), ('M-028', 6), ('M-028', 12), ('M-029', 12), ('M-029', 2), ('M-031', 5),
  ('M-033', 9), ('M-034', 5), ('M-035', 10), ('M-036', 3), ('M-036', 11), ('M-037', 5), ('M-038', 1), ('M-039', 6),
  ('M-041', 10), ('M-041', 12), ('M-042', 2), ('M-042', 9), ('M-044', 4), ('M-045', 2), ('M-045', 10), ('M-046', 7),
  ('M-047', 2), ('M-048', 7), ('M-048', 8), ('M-049', 4), ('M-050', 7), ('M-050', 9);

COMMIT;
